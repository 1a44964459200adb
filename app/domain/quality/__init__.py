"""What is wrong with readings.

``finding`` says what a finding is, ``detect`` runs the detectors of the other files.
"""
