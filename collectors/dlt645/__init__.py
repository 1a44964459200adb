"""DL/T 645 meters, editions of 2007 and (to read) 1997: ``codec`` makes and reads frames and their digits,
``link`` speaks to a line, ``collector`` polls a meter, ``probe`` finds one.
"""
