"""How well questions are answered: a set of questions, what is right, and configurations beside each other."""
