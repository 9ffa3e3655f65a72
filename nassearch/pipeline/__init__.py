"""The whole way: recipe -> train -> profile -> search -> export -> verify -> report."""
