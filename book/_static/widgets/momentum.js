// Descent with momentum in a valley of two directions: unet_np/training/optim.py's rule again,
// compared by tests/test_momentum_widget.py. The rate is the one beside the velocity.
(function () {
  "use strict";

  const CURVATURES = [1, 0.01]; // steep, shallow

  // Positions [steep, shallow] at each step from `start`, until they leave what can be drawn.
  function descend({ rate, momentum, noise = 0, steps = 200, start = [1, 1] }, normal = () => 0) {
    const [p, v, path] = [[...start], [0, 0], [[...start]]];
    for (let step = 0; step < steps; step++) {
      for (let i = 0; i < 2; i++) {
        v[i] = momentum * v[i] + CURVATURES[i] * p[i] + noise * normal();
        p[i] -= rate * v[i];
      }
      path.push([...p]);
      if (Math.max(...p.map(Math.abs)) > 1e6) break;
    }
    return path;
  }

  // The larger modulus of the two roots of r^2 - (1 + mu - rate curvature) r + mu.
  function modulus({ rate, momentum }, curvature) {
    const b = 1 + momentum - rate * curvature;
    const inside = b * b - 4 * momentum;
    return inside < 0 ? Math.sqrt(momentum) : (Math.abs(b) + Math.sqrt(inside)) / 2;
  }

  // Variance that noise keeps in a direction; infinite where the descent explodes.
  function variance({ rate, momentum, noise }, curvature) {
    const room = 2 * (1 + momentum) - rate * curvature;
    if (room <= 0) return Infinity;
    return (rate * noise ** 2 * (1 + momentum)) / (curvature * (1 - momentum) * room);
  }

  window.unetWidgets.momentum = { CURVATURES, descend, modulus, variance };
})();
