"""What an HRM can do at test time besides thinking: vote, search, adapt."""
