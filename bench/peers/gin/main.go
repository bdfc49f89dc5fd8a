// Gin, as its example of server-sent events has it: a goroutine and a channel for each client, `c.Stream` and
// `c.SSEvent`. Speaks the protocol of loads/host.ts.   GO111MODULE=off GOPATH=/usr/share/gocode go build main.go

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/gin-gonic/gin"
)

type clientChan chan string

var (
	lock   sync.RWMutex
	topics = map[string]map[clientChan]struct{}{}
)

func join(topic string, client clientChan) {
	lock.Lock()
	defer lock.Unlock()
	if topics[topic] == nil {
		topics[topic] = map[clientChan]struct{}{}
	}
	topics[topic][client] = struct{}{}
}

// What is under way to one who leaves is taken and thrown away, or the publisher would wait for it.
func leave(topic string, client clientChan) {
	go func() {
		for range client {
		}
	}()
	lock.Lock()
	defer lock.Unlock()
	delete(topics[topic], client)
	close(client)
}

func events(c *gin.Context) {
	topic, client := c.Query("topic"), make(clientChan)
	join(topic, client)
	defer leave(topic, client)
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	c.Writer.Flush()
	gone := c.Request.Context().Done()
	c.Stream(func(w io.Writer) bool {
		select {
		case text := <-client:
			c.SSEvent("message", text)
			return true
		case <-gone:
			return false
		}
	})
}

func answer(c *gin.Context) {
	c.Header("Content-Type", "text/event-stream")
	c.Header("Cache-Control", "no-cache")
	i := 0
	c.Stream(func(w io.Writer) bool {
		if i++; i%20 == 0 {
			runtime.Gosched()
		}
		c.SSEvent("message", text(i, now(), 0, "x"))
		return i < 500
	})
}

func publish(topic string, texts []string) {
	lock.RLock()
	defer lock.RUnlock()
	for _, text := range texts {
		for client := range topics[topic] {
			client <- text
		}
	}
}

// Of CLOCK_MONOTONIC, as all processes of the suite have it.
func now() int64 {
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*1e6 + t.Nsec/1e3
}

// As loads/texts.ts has it; what it fills up with as JSON is not the same record, but of the same kind.
func text(seq int, at int64, bytes int, filling string) string {
	head := fmt.Sprintf("@%d %d ", seq, at)
	if len(head) >= bytes {
		return head
	}
	if filling == "x" {
		return head + strings.Repeat("x", bytes-len(head))
	}
	var record strings.Builder
	fmt.Fprintf(&record, `{"type":"update","sequence":%d`, seq)
	for i := 0; record.Len() < bytes; i++ {
		fmt.Fprintf(&record, `,"price_%d":%d.%02d`, i, (seq*40+i)*2654435761%10000, i%100)
	}
	return head + record.String()[:bytes-len(head)]
}

var sent = map[string]int{}

func run(count, batch int, interval, duration int64, bytes int, filling string) {
	begin, turns := now(), int64(0)
	for due := begin; due < begin+duration*1000 || turns == 0; {
		if early := due - now(); early > 0 {
			time.Sleep(time.Duration(early) * time.Microsecond)
		}
		for i := 0; i < count; i++ {
			topic, texts := fmt.Sprintf("t%d", i), make([]string, batch)
			for k := range texts {
				sent[topic]++
				texts[k] = text(sent[topic], due, bytes, filling)
			}
			publish(topic, texts)
		}
		turns++
		if due = begin + turns*interval; interval == 0 {
			due = now()
		}
	}
	fmt.Printf("done %d %d\n", turns, now()-begin)
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println(gin.Version, runtime.Version())
		return
	}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.GET("/events", events)
	router.POST("/answer", answer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, router)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var topics, batch, bytes int
		var interval, duration int64
		var filling string
		if n, _ := fmt.Sscanf(lines.Text(), "run %d %d %d %d %d %s", &topics, &batch, &interval, &duration, &bytes, &filling); n == 6 {
			run(topics, batch, interval, duration, bytes, filling)
		} else {
			debug.FreeOSMemory()
			fmt.Println("gone")
		}
	}
}
