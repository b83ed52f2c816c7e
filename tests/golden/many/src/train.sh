mkdir -p models metrics
tail -n +2 "data/$1.csv" > "models/$1.txt"
if ! [ -s "models/$1.txt" ]; then
  echo "no prices of $1"
  exit 1
fi
echo '{"error": 2}' > "metrics/$1.json"
