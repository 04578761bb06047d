"""An actor and a critic that learn in dreams, from where real episodes were (HRSSM 4)."""
