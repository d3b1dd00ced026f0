"""What the tests of the status pages need: axe-core from npm, and a tab that notes all that a page must not do."""
