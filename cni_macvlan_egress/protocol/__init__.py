"""The CNI protocol: environment, stdin, versions, results and errors. Pure, and light enough for every exec."""
