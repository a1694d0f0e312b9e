"""When to stop thinking: banks of recorded segments, rules and learned policies over them, and their comparison."""
