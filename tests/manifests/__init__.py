"""What is under conf/kubernetes and conf/container."""
