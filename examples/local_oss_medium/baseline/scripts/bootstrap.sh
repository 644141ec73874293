echo "bootstrap: nothing to do yet"
