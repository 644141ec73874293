echo "smoke: nothing to do yet"
