"""What was compiled before, kept on a disk between one command and the next."""
