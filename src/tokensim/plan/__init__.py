"""From a pool of the scenario to a plan of it, worked out and checked before anything runs."""

from tokensim.plan.pool import PoolPlan, plan_pool

__all__ = ["PoolPlan", "plan_pool"]
