"""One device in the shortest JAX there is: what the law compares with.

Independent of the package but for the model's loss: no strategy, no program.
"""

import jax
import optax


def train(loss, optimizer, params, batches):
    """Return the params after one update a batch, and the loss of each."""

    @jax.jit
    def step(params, memory, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        change, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, change), memory, value

    memory, losses = optimizer.init(params), []
    for batch in batches:
        params, memory, value = step(params, memory, batch)
        losses.append(float(value))
    return jax.device_get(params), losses
