package nodeconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
)

const (
	typeNodeConfig = "application/node.eks.aws"
	typePEM        = "application/x-pem-file"
	typeScript     = "text/x-shellscript"

	// maxUserData bounds what user-data may unpack to. EC2 hands out at most 16 KiB,
	// which gzip can make into much more.
	maxUserData = 1 << 20
)

// part is one piece of user-data, unpacked.
type part struct {
	name      string // empty when it is the only one
	mediaType string
	body      []byte
}

func (p part) problem(field, format string, args ...any) Problem {
	return Problem{Part: p.name, Field: field, Message: fmt.Sprintf(format, args...)}
}

// split takes user-data apart. A part that cannot be read is a Problem, so that the
// others are still looked at.
func split(userData []byte) ([]part, Problems) {
	userData, err := unpack(userData)
	if err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	if !isMIME(userData) {
		return []part{{mediaType: sniff(userData), body: userData}}, nil
	}
	message, err := mail.ReadMessage(bytes.NewReader(userData))
	if err != nil {
		return nil, Problems{{Message: fmt.Sprintf("MIME header: %v", err)}}
	}
	mediaType, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		return nil, Problems{{Message: fmt.Sprintf("Content-Type: %v", err)}}
	}
	if !strings.HasPrefix(mediaType, "multipart/") {
		body, err := decodeBody(message.Body, message.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return nil, Problems{{Message: err.Error()}}
		}
		return []part{{mediaType: mediaType, body: body}}, nil
	}
	if params["boundary"] == "" {
		return nil, Problems{{Message: "Content-Type: multipart without a boundary"}}
	}
	return splitMultipart(multipart.NewReader(message.Body, params["boundary"]))
}

func splitMultipart(reader *multipart.Reader) (parts []part, problems Problems) {
	for number := 1; ; number++ {
		name := fmt.Sprintf("part %d", number)
		next, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return parts, problems
		}
		if err != nil {
			return parts, append(problems, Problem{Part: name, Message: fmt.Sprintf("read MIME part: %v", err)})
		}
		mediaType := "text/plain" // what MIME says a part without a type is
		if header := next.Header.Get("Content-Type"); header != "" {
			if mediaType, _, err = mime.ParseMediaType(header); err != nil {
				problems = append(problems, Problem{Part: name, Message: fmt.Sprintf("Content-Type: %v", err)})
				continue
			}
		}
		name = fmt.Sprintf("part %d (%s)", number, mediaType)
		body, err := decodeBody(next, next.Header.Get("Content-Transfer-Encoding"))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("cut short: the boundary after it is missing")
		}
		if err != nil {
			problems = append(problems, Problem{Part: name, Message: err.Error()})
			continue
		}
		if len(bytes.TrimSpace(body)) == 0 {
			continue
		}
		parts = append(parts, part{name: name, mediaType: mediaType, body: body})
	}
}

// decodeBody reads a MIME body. multipart undoes quoted-printable by itself.
func decodeBody(body io.Reader, encoding string) ([]byte, error) {
	if strings.EqualFold(encoding, "base64") {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	data, err := readAll(body)
	if err != nil {
		return nil, err
	}
	return unpack(data)
}

// unpack undoes gzip and base64, in any order, as cloud-init does.
func unpack(data []byte) ([]byte, error) {
	const layers = 4 // base64 of gzip is two; more than four is an attack
	for range layers {
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			reader, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				return nil, fmt.Errorf("gunzip: %w", err)
			}
			if data, err = readAll(reader); err != nil {
				return nil, fmt.Errorf("gunzip: %w", err)
			}
			continue
		}
		decoded, ok := fromBase64(data)
		if !ok {
			return data, nil
		}
		data = decoded
	}
	return nil, fmt.Errorf("packed more than %d times over", layers)
}

// fromBase64 decodes what is base64: YAML, JSON, MIME and scripts all have a character
// that base64 has not.
func fromBase64(data []byte) (decoded []byte, ok bool) {
	decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	return decoded, err == nil && len(decoded) > 0
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxUserData+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxUserData {
		return nil, fmt.Errorf("longer than %d bytes when unpacked", maxUserData)
	}
	return data, nil
}

func isMIME(data []byte) bool {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	lower := strings.ToLower(string(line))
	return strings.HasPrefix(lower, "mime-version:") || strings.HasPrefix(lower, "content-type:")
}

// sniff says what user-data without a MIME header is, by cloud-init's rules.
func sniff(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("#!")):
		return typeScript
	case bytes.HasPrefix(data, []byte("#cloud-config")):
		return "text/cloud-config"
	case bytes.HasPrefix(data, []byte("#cloud-boothook")):
		return "text/cloud-boothook"
	default:
		return typeNodeConfig
	}
}
