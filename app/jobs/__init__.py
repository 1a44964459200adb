"""What runs again and again: polls, rollups, evaluations, alarms, reports that are due, messages.

``scheduler.py`` says when each job runs; a job takes its work from the database and keeps nothing.
"""
