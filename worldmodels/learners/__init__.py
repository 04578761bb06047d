"""What trains an actor and a critic: by the gradient through dreams (HRSSM 4), or by PPO, in dreams or in reality."""
