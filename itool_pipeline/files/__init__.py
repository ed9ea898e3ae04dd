"""The ground floor: durable writes, locks between processes, JSON text."""
