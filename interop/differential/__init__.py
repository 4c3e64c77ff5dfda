"""The same conversations held with this broker and with a RabbitMQ, and every frame that comes back compared.

Nothing of the broker is imported here: octets go out by a socket, and what comes back is read with pamqp's
tables of methods and a reader of field tables that keeps each value's type. See interop/README.md.
"""
