echo "validate: nothing to do yet"
