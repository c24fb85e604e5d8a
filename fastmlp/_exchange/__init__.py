"""Networks from and to other libraries and languages."""
