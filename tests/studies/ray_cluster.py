"""A Ray cluster of a head without CPUs and two nodes of one, on this machine; it obeys a word a line on its input."""

import sys

from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    word, *numbers = line.split()
    if word == "lose":
        cluster.remove_node(nodes[int(numbers[0])], allow_graceful=False)
        print("lost", flush=True)
cluster.shutdown()
