"""How fast the gateway is, beside nginx as the limit and any other gateway by configuration."""
