"""The admin command line: what runs when there is no CNI_COMMAND."""
