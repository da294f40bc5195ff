package s3

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// object is what the store knows of an object besides its content.
type object struct {
	Key      string            `json:"key"`
	Size     int64             `json:"size"`
	ETag     string            `json:"etag"` // MD5, hexadecimal
	Modified time.Time         `json:"modified"`
	Checksum checksum          `json:"checksum"`
	Headers  map[string]string `json:"headers,omitempty"` // that Get answers: Content-Type, X-Amz-Meta-*
}

// An object's file is its content, the object in JSON, and a footer of 16 bytes: the length of
// the JSON, and the magic. Of the object some is known only when the content is there.
const magic = "ovenobj1"

const footer = 8 + len(magic)

// fileName fits every key: a key may have slashes, and more bytes than a file's name.
func fileName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// finish writes what follows the content, and makes the file durable.
func (o object) finish(file *os.File) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	data = append(binary.BigEndian.AppendUint64(data, uint64(len(data))), magic...)
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

// readObject reads the object of a file.
func readObject(path string) (object, error) {
	file, err := os.Open(path)
	if err != nil {
		return object{}, err
	}
	defer file.Close()
	o, err := parseObject(file)
	if err != nil {
		return o, fmt.Errorf("%s is no object: %w", path, err)
	}
	return o, nil
}

func parseObject(file *os.File) (object, error) {
	info, err := file.Stat()
	if err != nil {
		return object{}, err
	}
	end := info.Size() - int64(footer)
	var tail [footer]byte
	if _, err := file.ReadAt(tail[:], end); err != nil {
		return object{}, err
	}
	length := binary.BigEndian.Uint64(tail[:8])
	if string(tail[8:]) != magic || end < 0 || length > uint64(end) {
		return object{}, io.ErrUnexpectedEOF
	}
	data := make([]byte, length)
	if _, err := file.ReadAt(data, end-int64(length)); err != nil {
		return object{}, err
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		return object{}, err
	}
	if o.Size != end-int64(length) {
		return object{}, fmt.Errorf("it has %d bytes, and not %d", end-int64(length), o.Size)
	}
	return o, nil
}

// syncDirectory makes renames and removals durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("make a change durable: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("make a change durable: %w", err)
	}
	return nil
}
