"""Load for inference servers: Locust users, open-loop arrivals and a co-tenant that disturbs."""
