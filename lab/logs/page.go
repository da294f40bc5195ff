package logs

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

var errToken = invalid("The specified nextToken is invalid.")

// listing is what a token for the next page is good for: the same request again, except for
// its limit.
type listing string

func listingOf(parts ...any) listing { return listing(fmt.Sprintf("%q", parts)) }

func (l listing) sum() []byte {
	sum := sha256.Sum256([]byte(l))
	return sum[:8]
}

// token is good for what comes after a key.
func (l listing) token(after string) string {
	return base64.RawURLEncoding.EncodeToString(append(l.sum(), after...))
}

// after is the key that a token was made for.
func (l listing) after(token string) (string, error) {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || !strings.HasPrefix(string(data), string(l.sum())) {
		return "", errToken
	}
	return string(data[len(l.sum()):]), nil
}

// page is the part of a list after a token, and the token for the rest; empty: there is none.
// The list is in the order of its keys, or in the opposite one.
func page[T any](l listing, list []T, key func(T) string, descending bool, token string, limit int64) ([]T, string, error) {
	if token != "" {
		after, err := l.after(token)
		if err != nil {
			return nil, "", err
		}
		for len(list) > 0 && (key(list[0]) == after || key(list[0]) < after != descending) {
			list = list[1:]
		}
	}
	if int64(len(list)) <= limit {
		return list, "", nil
	}
	list = list[:limit]
	return list, l.token(key(list[limit-1])), nil
}
