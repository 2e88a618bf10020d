"""What is to be done: a request and facts become a plan. Pure; every rule here can be tested with plain data."""
