// Package uefivars makes the UEFI variables with which an EC2 instance starts in Secure
// Boot with keys of its owner's: the UefiData of RegisterImage. It knows the certificates
// that UEFI keeps and the file that EC2 keeps them in, and no other variable.
//
// EC2 compresses that file against a dictionary of its own, which this package does not
// have. It does not need it for writing: it names the dictionary, as EC2's readers may
// insist, and refers to nothing in it. It reads what it has written, and of what EC2
// writes only what happens not to refer to the dictionary.
package uefivars

import (
	"bytes"
	"compress/flate"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"

	"github.com/google/uuid"
)

// Attributes of a variable: UEFI specification 2.10, 8.2.
const (
	nonVolatile       = 0x01
	bootService       = 0x02
	runtime           = 0x04
	timeAuthenticated = 0x20
	keyAttributes     = nonVolatile | bootService | runtime | timeAuthenticated
	maxUncompressed   = 1 << 20 // EC2 takes 64,000 characters of the compressed form
)

// Vendors of the variables and the type of a signature list: UEFI specification 2.10, 32.
var (
	globalVariable   = uuid.MustParse("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	securityDatabase = uuid.MustParse("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	certX509         = uuid.MustParse("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	// owner says whose entry in a list of certificates is: ours.
	owner = uuid.MustParse("6a1d7b52-5f0e-4e0b-9c57-0b1f3c6a94d8")
)

// Variable is one UEFI variable.
type Variable struct {
	Name       string
	Vendor     uuid.UUID
	Attributes uint32
	Data       []byte
}

// SecureBoot returns the variables that switch Secure Boot on: platform may replace the
// exchange keys, exchange may change what boots, and what one of database has signed boots.
func SecureBoot(platform *x509.Certificate, exchange, database []*x509.Certificate) []Variable {
	return []Variable{
		{"PK", globalVariable, keyAttributes, signatureLists([]*x509.Certificate{platform})},
		{"KEK", globalVariable, keyAttributes, signatureLists(exchange)},
		{"db", securityDatabase, keyAttributes, signatureLists(database)},
	}
}

// signatureLists is an EFI_SIGNATURE_LIST for each certificate, as their sizes differ.
func signatureLists(certificates []*x509.Certificate) []byte {
	const header, entryHeader = 16 + 3*4, 16
	var out []byte
	for _, c := range certificates {
		out = append(out, guid(certX509)...)
		out = binary.LittleEndian.AppendUint32(out, uint32(header+entryHeader+len(c.Raw)))
		out = binary.LittleEndian.AppendUint32(out, 0)
		out = binary.LittleEndian.AppendUint32(out, uint32(entryHeader+len(c.Raw)))
		out = append(out, guid(owner)...)
		out = append(out, c.Raw...)
	}
	return out
}

// guid is a UUID in UEFI's byte order, whose first three parts are little-endian.
func guid(id uuid.UUID) []byte {
	return []byte{id[3], id[2], id[1], id[0], id[5], id[4], id[7], id[6], id[8], id[9], id[10], id[11], id[12], id[13], id[14], id[15]}
}

// The container: eight letters, the CRC-32C of what follows, a version, and a zlib stream.
const (
	magic   = "AMZNUEFI"
	version = 0
	// zlib's header with a dictionary (RFC 1950), and the Adler-32 of EC2's dictionary.
	zlibWithDictionary = 0x78f9
	dictionary         = 0x6bb7d9f7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode writes variables as RegisterImage takes them, in base64. The same variables make
// the same text.
func Encode(variables []Variable) (string, error) {
	plain := binary.LittleEndian.AppendUint64(nil, uint64(len(variables)))
	bytesOf := func(b []byte) {
		plain = binary.LittleEndian.AppendUint64(plain, uint64(len(b)))
		plain = append(plain, b...)
	}
	for _, v := range variables {
		bytesOf([]byte(v.Name))
		bytesOf(v.Data)
		plain = append(plain, guid(v.Vendor)...)
		plain = binary.LittleEndian.AppendUint32(plain, v.Attributes)
		if v.Attributes&timeAuthenticated != 0 {
			plain = append(plain, make([]byte, 16)...) // never written by an authenticated update
			bytesOf(make([]byte, 32))
		}
	}

	stream := binary.LittleEndian.AppendUint32(nil, version)
	stream = binary.BigEndian.AppendUint16(stream, zlibWithDictionary)
	stream = binary.BigEndian.AppendUint32(stream, dictionary)
	var compressed bytes.Buffer
	w, err := flate.NewWriter(&compressed, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(plain); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	stream = append(stream, compressed.Bytes()...)
	stream = binary.BigEndian.AppendUint32(stream, adler32.Checksum(plain))

	out := []byte(magic)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(stream, castagnoli))
	return base64.StdEncoding.EncodeToString(append(out, stream...)), nil
}

// Decode reads what Encode has written.
func Decode(text string) ([]Variable, error) {
	variables, err := decode(text)
	if err != nil {
		return nil, fmt.Errorf("read UEFI variables: %w", err)
	}
	return variables, nil
}

func decode(text string) ([]Variable, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if len(data) < len(magic)+4+4+2+4+4 || string(data[:len(magic)]) != magic {
		return nil, errors.New("not UEFI data of EC2")
	}
	stream := data[len(magic)+4:]
	if binary.LittleEndian.Uint32(data[len(magic):]) != crc32.Checksum(stream, castagnoli) {
		return nil, errors.New("the checksum is wrong")
	}
	if v := binary.LittleEndian.Uint32(stream); v != version {
		return nil, fmt.Errorf("version %d is unknown", v)
	}
	stream = stream[4:]
	body := stream[2:]
	named := stream[1]&0x20 != 0
	if named {
		body = stream[6:]
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), maxUncompressed))
	if corrupt := flate.CorruptInputError(0); errors.As(err, &corrupt) && named {
		return nil, errors.New("it is compressed against EC2's own dictionary, which this program does not have")
	}
	if err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(stream[len(stream)-4:]) != adler32.Checksum(plain) {
		return nil, errors.New("the checksum of the variables is wrong")
	}
	return parse(&reader{rest: plain})
}

func parse(r *reader) ([]Variable, error) {
	var variables []Variable
	for range r.uint64() {
		v := Variable{Name: string(r.take(r.uint64())), Data: r.take(r.uint64())}
		raw := r.take(16)
		if r.short {
			break
		}
		v.Vendor = uuid.UUID(guid(uuid.UUID(raw))) // the order is its own inverse
		v.Attributes = binary.LittleEndian.Uint32(append(r.take(4), 0, 0, 0, 0))
		if v.Attributes&timeAuthenticated != 0 {
			r.take(16)
			r.take(r.uint64())
		}
		variables = append(variables, v)
	}
	if r.short || len(r.rest) > 0 {
		return nil, errors.New("the variables are cut short, or more than they say")
	}
	return variables, nil
}

// reader takes from the front; short tells that there was too little.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.short, n = true, uint64(len(r.rest))
	}
	taken := bytes.Clone(r.rest[:n])
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) uint64() uint64 {
	raw := r.take(8)
	if r.short {
		return 0
	}
	return binary.LittleEndian.Uint64(raw)
}
