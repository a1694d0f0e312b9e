"""What an HRM does with its time: segments against difficulty, accuracy against the budget of segments."""
