LOCK load_failures;
