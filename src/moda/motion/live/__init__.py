"""Motion of somebody who is still speaking, frame by frame."""
