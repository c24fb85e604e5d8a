"""The programs of examples/ten_steps in one run, and the page that shows them."""
