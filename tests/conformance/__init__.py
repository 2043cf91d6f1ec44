"""The standards, requirement by requirement: the ledger, the run that proves it, the document made of both."""
