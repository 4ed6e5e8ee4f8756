"""What ``auto_annotate`` does, a file for each of its acts; no printing, no flags: those are the command line's."""
