// A page opened as a file may start no worker: the search then runs in a hidden frame that behaves like one.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      this.ready = new Promise((loaded) => {
        const script = inside.document.createElement("script");
        script.src = url;
        script.onload = loaded;
        inside.IFrameWorker = window.IFrameWorker;
        inside.__index = window.__index;
        inside.postMessage = (data) => {
          const message = new MessageEvent("message", { data });
          this.dispatchEvent(message);
          if (this.onmessage) this.onmessage(message);
        };
        inside.importScripts = (...urls) =>
          urls.reduce(
            (before, place) =>
              before.then(
                () =>
                  new Promise((done) => {
                    const other = inside.document.createElement("script");
                    other.src = place;
                    other.onload = done;
                    inside.document.body.append(other);
                  }),
              ),
            Promise.resolve(),
          );
        inside.document.body.append(script);
      });
      this.inside = inside;
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
