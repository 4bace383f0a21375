"""Browser state: sessions, sign-in transactions, cookies and form tokens."""
