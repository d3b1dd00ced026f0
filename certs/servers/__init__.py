"""What servers, their accounts and Binlock's routes are told, in the words of each server and version."""
