"""Ray: replicas as actors, placement, jobs and tunnels. The only room that imports ray."""
