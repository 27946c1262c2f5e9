-- positions: whether projection $1 has ever written anything here.
SELECT EXISTS (SELECT FROM positions WHERE projection = $1)
