"""Where the authority keeps what it must not forget: tables, migrations, and transactions on SQLite or PostgreSQL."""
