"""What runs leave behind: run folders, tables and plots, and what they show on the terminal."""
