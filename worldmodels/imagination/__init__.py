"""An actor and a critic that learn in dreams: through them, from where real episodes were (HRSSM 4), or by PPO."""
