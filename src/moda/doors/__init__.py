"""What our programs that listen to a network share: caution with requests, and a palette."""
