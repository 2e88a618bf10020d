"""What is given to users: sdist, wheel, archive and .deb, the same bytes each time, and tried in a clean root.

`bin/package` builds (docs/packaging.md), `bin/release-check` tries. Only Python's own library, pip and dpkg-deb are
needed, and no network once the wheels that the two lock files name are in the cache.
"""
