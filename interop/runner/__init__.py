"""Plays the scenarios of foreign clients against this broker and a RabbitMQ, and keeps what came of it."""
