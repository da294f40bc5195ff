package wire

import "github.com/ovenbird-dev/ovenbird/internal/sigv4"

// JSONCode is how services that speak JSON call a refused signature; those of the query
// protocol use the refusal's own code.
func JSONCode(refused *sigv4.Error) string {
	switch refused.Code {
	case sigv4.CodeUnknownKey:
		return "UnrecognizedClientException"
	case sigv4.CodeMismatch, sigv4.CodeExpired:
		return "InvalidSignatureException"
	case sigv4.CodeExpiredToken:
		return "ExpiredTokenException"
	case sigv4.CodeMissingToken:
		return "MissingAuthenticationTokenException"
	case sigv4.CodeIncomplete:
		return "IncompleteSignatureException"
	}
	return "ValidationException"
}
