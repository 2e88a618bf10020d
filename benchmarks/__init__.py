"""What the plugin costs, measured beside what it is compared with.

    sudo .venv/bin/python -m benchmarks                        # everything, and docs/benchmarks.md rewritten
    sudo .venv/bin/python -m benchmarks direct --rounds 300
    sudo .venv/bin/python -m benchmarks --peer-macvlan PATH    # beside a macvlan plugin of your own
    sudo .venv/bin/python -m benchmarks --quick                # does it run? a few rounds, nothing written

It needs root, a kernel with macvlan, and Debian's package containernetworking-plugins. All happens in network
namespaces with random names, which are removed however it ends; the machine's own interfaces are not touched.

How figures are made comparable on a machine that others use too:

- Everything is measured in one run, with one set of namespaces, and in turns: A B C A B C. A busy minute hits
  all.
- A process is timed whole, from before it is made until it is gone, as a container runtime waits for it. It
  is made by posix_spawn(3) (vfork) from a thread that stands in the node's namespace already, so that neither
  fork nor `ip netns exec` is measured.
- Processor time is shown beside the time on the clock; it does not count waiting for others.
- The launcher runs Python without writing byte code (-B). Byte code of the package and of what it imports is
  compiled beforehand, as installing them by pip does; else every execution would time the compiler.
- Every answer is looked at, so that a failure is never timed as a fast success.

A benchmark is a module of this package, named in `__main__.BENCHMARKS`, with

- `configure(parser)`: its own command-line arguments, if any;
- `measure(options, check)`: does it and returns a `report.Result`; `check()`, called between samples, lets
  Ctrl-C stop it;
- a place for its result in docs/benchmarks.md, between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

What benchmarks share: `cluster` (a node on a LAN, and pods), `calls` (CNI calls as a runtime makes them),
`process` (one whole process, timed), `sampling` (turns, medians), `report` (tables), `document` (their place
in the documentation), `machine` (what it ran on).
"""
