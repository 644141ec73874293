echo "test: nothing to do yet"
