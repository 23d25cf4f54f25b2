"""Detector packs and services: installed, run, calibrated, evaluated."""
