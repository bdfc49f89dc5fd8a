package main

import "sync"

// The clients of a topic, a channel for each: what a JavaScript server has a Set for.
type clients struct {
	lock sync.RWMutex
	all  map[chan string]bool
}

var topics sync.Map

func clientsOf(topic string) *clients {
	found, _ := topics.LoadOrStore(topic, &clients{all: map[chan string]bool{}})
	return found.(*clients)
}

func (c *clients) add(client chan string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.all[client] = true
}

// What is under way to one who leaves is taken and thrown away, or the publisher would wait for it.
func (c *clients) remove(client chan string) {
	go func() {
		for range client {
		}
	}()
	c.lock.Lock()
	defer c.lock.Unlock()
	delete(c.all, client)
	close(client)
}

func (c *clients) send(texts []string) {
	c.lock.RLock()
	defer c.lock.RUnlock()
	for _, text := range texts {
		for client := range c.all {
			client <- text
		}
	}
}
