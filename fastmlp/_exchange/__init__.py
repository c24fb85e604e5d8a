"""Networks from and to other libraries, formats and languages."""
