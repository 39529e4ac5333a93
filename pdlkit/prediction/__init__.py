"""What a program would do elsewhere: modelled, no device is touched."""
